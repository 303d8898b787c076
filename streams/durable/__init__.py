"""What survives the process: the journal of versions, snapshots of the state, and the folder that holds them."""

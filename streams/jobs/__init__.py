"""Jobs: slow work on a frozen version of the state, on a schedule in event time; results come back as models."""

"""The products: For You and Following, composed from the rooms through the pipeline framework."""

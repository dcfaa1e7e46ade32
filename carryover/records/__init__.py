"""Records of cells: the record with its schema, its contract, and the folder of results."""

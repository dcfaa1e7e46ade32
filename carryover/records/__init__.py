"""What is kept of a cell: the record with its schema, the contract it stands under, the folder of results."""

"""One module per API verb: from a parsed request to a reply. They share the store and the strategies, nothing else."""

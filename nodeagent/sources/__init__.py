"""Where pods come from: the API, later also files of this node. It only tells; it decides nothing."""

"""Pod status: made from what runs (PURE), and written to the API only when it changed."""

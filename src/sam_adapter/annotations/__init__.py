"""Ground truth as files hold it, and what their pixels and values mean."""

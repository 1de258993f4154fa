"""The benchmark of app-servers: the same work for ours and for another, in one run."""

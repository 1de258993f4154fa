"""The benchmark of the control plane, ours and the anchors' work in one run."""

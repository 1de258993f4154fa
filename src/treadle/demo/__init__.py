"""The demonstration: a sample project with a failing test, and the model's recorded words.

Data for `treadle demo`; the recording is made anew by `tests/support/record_demo.py`.
"""

"""How a backbone is adapted: one file (or folder) per method, and `base/`, on which they stand.

A method is a subclass of `methods.base.Method` with a `name`; putting its file here is all that it
takes to be found. Methods know no protocol: they learn a task and predict.
"""

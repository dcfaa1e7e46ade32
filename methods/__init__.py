"""Methods, which adapt a backbone: one file (or folder) per method, and their shared base in `base/`.

A method is a subclass of `methods.base.Method` with a `name`; a file here is found without registration.
Methods know no protocol: they learn a task and predict.
"""

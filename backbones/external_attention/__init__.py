"""External attention (Guo et al., "Beyond Self-attention", 2021): attention to learnt memories.

attention.py has the layers, cost.py their price against self-attention, eamlp.py the network made of them
and configurations.py its published sizes, read without torch.
"""

"""Few-shot episodes: how many classes and images, which of them, and the files that hold them."""

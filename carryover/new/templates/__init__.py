"""What `carryover new` starts from: plugins that run as they are, under names that it replaces."""

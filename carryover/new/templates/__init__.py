"""The templates of `carryover new`: plugins that already run, under names that it replaces."""

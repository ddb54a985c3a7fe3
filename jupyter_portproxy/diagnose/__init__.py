"""The page doctor: why a page that works on localhost is broken below its prefix."""

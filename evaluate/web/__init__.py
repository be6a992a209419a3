"""The local page of `mrnn serve`: search, captions and regions in a browser, on top of mrnn.evaluate.run."""

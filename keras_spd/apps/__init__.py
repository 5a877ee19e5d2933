"""Complete programs: the demo, the web page, and prediction with Ray Data."""

"""View: a web page of this machine that shows heads, and speaks what it is given or told."""

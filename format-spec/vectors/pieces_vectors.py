def make(c): pass

def reencoded(clips, rate):
    raise ValueError("stub")
    yield

"""The local AWS against what the public documentation of AWS says. Each test names the page that its rule is from."""

"""What a browser would make of a page, as far as tests ask."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """What a browser would see: elements, and what they would load."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.loads, self.alts, self.words = [], [], [], []
        self.attributes = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name in ("src", "srcset", "href", "action", "data", "poster"):
                self.loads.append(value)
            if tag == "img" and name == "alt":
                self.alts.append(value)

    def handle_data(self, data):
        self.words.append(data)

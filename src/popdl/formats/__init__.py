"""Formats of labelled data that can be imported, one file each: `import: {format: ms, …}` is formats/ms.py."""

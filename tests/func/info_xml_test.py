#!/usr/bin/env python3
"""malloc_info writes a well-formed document, again and again. sys.argv[1]: a program that prints it."""
import os
import subprocess
import sys
import xml.etree.ElementTree

for _ in range(5):
    environment = dict(os.environ, LD_PRELOAD=os.environ["NONREUSE_LIBRARY"])
    text = subprocess.run([sys.argv[1]], env=environment, stdout=subprocess.PIPE, text=True, timeout=60,
                          check=True).stdout
    document = xml.etree.ElementTree.fromstring(text)
    assert document.tag == "malloc", text
    assert document.get("version"), text
    sizes = [int(e.get("size")) for e in document.iter() if e.get("size") is not None and e.tag != "size"]
    assert sizes and all(size >= 0 for size in sizes), text
    assert any(size > 0 for size in sizes), text

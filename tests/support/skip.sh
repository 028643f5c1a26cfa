#!/bin/sh
# A test that cannot run here: says why, and ends as a skip.
echo "$1"
exit 77

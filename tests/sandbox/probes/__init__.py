"""Hostile acts as a table, and a runner that shows for each which wall refuses it.

An act is tried outside, inside, with each of its walls standing alone, and with all of them off. Walls are taken off by
means that only tests have (off.py): the product has no option for it.
"""

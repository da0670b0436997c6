"""
What five earlier projects could do, and what went wrong in them: one file each.

Each ability and each defect is a test, from the outside, on the real parts.
"""

"""Planning a venue before the gates open: when a clone would be noticed, what it could spend, how late money settles.

`plan` says what a venue is, `contacts` who can hear whom when, `clone` and `settle` what follows for a clone and for
money; all of these are PURE. `plan_file` reads what people write, `changes` tries what would help, `report`, `plot` and
`cli` show it.
"""

"""What holds on the engines that people run: the product on real Redis and PostgreSQL, with a failure in each row.

`python -m topologies` runs the rows of `rows.py`. `docs/topologies.md` is generated from `results.json`.
"""

"""The only place that knows boto3. Satisfies the reconciler's ports by shape and does not import them.

client.py        boto3 clients and botocore's errors turned into ours
rows.py          one row of a table <-> one value of core
writes.py        a RecordWrite as one conditional UpdateItem
transactions.py  the requests of session writers: a row and its record change together
refusals.py      what a session writer is told when the rows forbid it
tables.py        the three tables: TableReader looks, Tables writes too
schema.py        how the tables are made, and whether they are as they must be
lease.py         the lease row: who leads
world.py         the world row: the ids of cluster and tables seen first
tasks.py         ECS: TaskReader looks, Tasks launches, stops and marks too
families.py      task-definition revisions, and their clones for each project
inspection.py    what an operator looks up about one task
hints.py         the depth of a session's input queue
"""

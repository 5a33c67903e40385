"""The only place that knows boto3. Satisfies the reconciler's ports by shape and does not import them.

client.py    boto3 clients and botocore's errors turned into ours
rows.py      one row of a table <-> one value of core
writes.py    a RecordWrite as one conditional UpdateItem
tables.py    the three tables: TableReader looks, Tables writes too
sessions.py  the transactions of session writers
schema.py    how the tables are made, and whether they are as they must be
tasks.py     ECS: TaskReader looks, Tasks launches, stops and marks too
families.py  task-definition revisions, and their clones for each project
hints.py     the depth of a session's input queue
"""

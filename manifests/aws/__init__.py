"""The AWS side as a CDK app.

settings.py  what can be chosen, from the context
policies.py  policies/*.json and trusts/*.json with their names filled in
parts/       one construct for each concern
stacks.py    Data, Runtime, Hints, Controller, Eks: which part goes where, and what each stack prints
app.py       what `cdk` runs
synth.py     writes templates/, which are checked in
"""

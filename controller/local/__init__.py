"""The embedded AWS: everything a controller of edit containers talks to, on loopback, without an AWS account.

`ecs.StrictEcs` behaves as ECS is documented to behave, on a clock that the caller gives. `server.LocalEndpoint` serves
it over HTTP together with DynamoDB, DynamoDB Streams, SQS and STS, so that an unmodified AWS SDK or CLI can be pointed
at one URL. Nothing in here knows the controller.
"""

"""psycopg 3.2 and newer: the classes are patched in place, the physical connection is replaced under the app's object.

Private parts of psycopg are used in this folder only; what all drivers share is in ``drivers/engine``. The files:

- `install`: what is patched, as a list; `private_api`: the private parts used, and the self-test that looks for them;
- `connect`: a connection is made, its arguments are recorded; `records`: the record of a connection;
- `waiting`: the choke point of all input and output; `flow`: the order of steps around it, for sync and async
  connections; `steps`: what is decided there, from the `loss_facts` of what was under way; `liveness`: whether the
  session has ended; `limits`: deadlines for psycopg's generators;
- `statements`: what is sent is noted; `query_text`: the text of a query, for telemetry, as it is sent, and its effects;
- `driver`: what the lifecycle needs of the driver; `settings_queries`: how settings are read and set; `libpq_race`:
  libpq connects to several hosts at once;
- `seams`, `transactions`: the other patched methods; `baseline`: what is set before the app has the connection;
- `operations`: what the app calls, timed; `streaming`: what lasts; `server_cursors`: pages; `generator_spans`: what
  psycopg sends by itself.
"""

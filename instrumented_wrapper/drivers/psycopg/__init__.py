"""psycopg 3.2 and newer: the classes are patched in place, the physical connection is replaced under the app's object.

Private parts of psycopg are used in this folder only. The rooms:

- `install`: what is patched, as a list; `private_api`: the private parts used, and the self-test that looks for them;
- `connect`: a connection is made, its arguments are kept; `records`: what we keep per connection;
- `waiting`: the choke point through which all input and output goes; `steps`: the rare decisions around it, from the
  `facts` of what was under way; `limits`: deadlines for psycopg's generators;
- `adapter`: what the lifecycle asks of the driver; `connecting`: libpq connects to several hosts at once;
- `seams`, `transactions`: the other patched methods;
- `operations`: what the app calls, timed; `streaming`: what lasts; `server_cursors`: pages; `generator_spans`: what
  psycopg sends by itself; `query_text`: the text of a query, for telemetry and as it is sent.
"""

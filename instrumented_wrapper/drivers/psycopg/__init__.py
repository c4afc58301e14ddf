"""psycopg 3.2 and newer: the classes are patched in place, the physical connection is replaced under the app's object.

Rooms: `parts` (the private parts used, and their self-test), `records` (what we keep per connection), `connecting`
(arguments, hosts, racing attempts), `adapter` (what the lifecycle asks), `losses` (what a loss means, as a table),
`waiting` (the choke point through which all input and output goes), `seams` (the other patched methods), `pools`.
Private parts of psycopg are used in this folder only.
"""

package journal

import (
	"strings"

	"github.com/even-keel/evenkeel/monitor/kql"
)

// version of the layout. A store of another one is put aside: it is a log, not a ledger.
const version = 1

// layout makes the tables. An id is the moment in nanoseconds, moved on when two are the same, so that the order of rows is that of time and
// needs no index. Rows that come with a time of their own, which may be long ago, have it in at.
const layout = `
CREATE TABLE events (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, level INTEGER NOT NULL, text TEXT NOT NULL, props TEXT) STRICT;
CREATE INDEX events_kind ON events (kind, id);
CREATE TABLE traces (id INTEGER PRIMARY KEY, level INTEGER NOT NULL, text TEXT NOT NULL, props TEXT) STRICT;
CREATE TABLE requests (id INTEGER PRIMARY KEY, listener TEXT, protocol TEXT, method TEXT, host TEXT, path TEXT, status INTEGER, took REAL, first_byte REAL,
  bytes_in INTEGER, bytes_out INTEGER, route TEXT, class TEXT, pool TEXT, endpoint TEXT, client TEXT, request TEXT, refused_by TEXT, reason TEXT,
  attempts INTEGER, failed INTEGER, weight REAL) STRICT;
CREATE TABLE checks (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, name TEXT, location TEXT, success INTEGER, took REAL, message TEXT, source TEXT, props TEXT) STRICT;
CREATE INDEX checks_at ON checks (at);
CREATE TABLE metrics (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, name TEXT, value REAL, props TEXT) STRICT;
CREATE INDEX metrics_at ON metrics (at);
CREATE TABLE requests_rollup (at INTEGER, route TEXT, pool TEXT, class TEXT, result TEXT, reason TEXT, items REAL, records INTEGER, took REAL, took_max REAL,
  PRIMARY KEY (at, route, pool, class, result, reason)) STRICT, WITHOUT ROWID;
CREATE TABLE events_rollup (at INTEGER, kind TEXT, items INTEGER, PRIMARY KEY (at, kind)) STRICT, WITHOUT ROWID;
CREATE TABLE sent (name TEXT PRIMARY KEY, id INTEGER NOT NULL) STRICT, WITHOUT ROWID;
`

// rollupStep is the length of one row of the summaries.
const rollupStep = int64(5 * 60 * 1e9)

// success is when a request counts as good, as in Azure Monitor: below 400. A tcp connection has no status.
const success = "(failed = 0 AND refused_by = '' AND status < 400)"

const shownName = "(CASE WHEN method = '' THEN protocol ELSE method || ' ' || path END)"

// Tables are what can be asked for, for a site of a name. Names of tables and columns are those of Azure Monitor; what it has no name for follows them.
func Tables(siteName string) []kql.Table {
	role := kql.Column{Name: "AppRoleName", Type: kql.String, SQL: "'" + strings.ReplaceAll(siteName, "'", "''") + "'"}
	id := kql.Column{Name: "TimeGenerated", Type: kql.DateTime, SQL: "id"}
	at := kql.Column{Name: "TimeGenerated", Type: kql.DateTime, SQL: "at"}
	one := kql.Column{Name: "ItemCount", Type: kql.Long, SQL: "1"}
	weight := kql.Column{Name: "ItemCount", Type: kql.Long, SQL: "CAST(round(weight) AS INTEGER)"}
	props := kql.Column{Name: "Properties", Type: kql.Dynamic, SQL: "props"}
	text := func(name, sql string) kql.Column { return kql.Column{Name: name, Type: kql.String, SQL: sql} }
	long := func(name, sql string) kql.Column { return kql.Column{Name: name, Type: kql.Long, SQL: sql} }
	real := func(name, sql string) kql.Column { return kql.Column{Name: name, Type: kql.Real, SQL: sql} }
	good := kql.Column{Name: "Success", Type: kql.Bool, SQL: success}
	result := text("ResultCode", "CAST(status AS TEXT)")
	return []kql.Table{
		{Name: "AppEvents", From: "events", Columns: []kql.Column{id, text("Name", "kind"), text("Message", "text"), long("SeverityLevel", "level"), props, one, role, long("Id", "id")}},
		{Name: "AppTraces", From: "traces", Columns: []kql.Column{id, text("Message", "text"), long("SeverityLevel", "level"), props, one, role}},
		{Name: "AppRequests", From: "requests", Columns: []kql.Column{
			id, text("Name", shownName), text("Url", "host || path"), good, result, real("DurationMs", "took"), weight, text("Route", "route"), text("Class", "class"),
			text("Pool", "pool"), text("Endpoint", "endpoint"), text("RefusedBy", "refused_by"), text("Reason", "reason"), text("ClientIP", "client"),
			text("Method", "method"), text("Host", "host"), text("Path", "path"), text("Listener", "listener"), text("Protocol", "protocol"),
			real("FirstByteMs", "first_byte"), long("Attempts", "attempts"), long("BytesIn", "bytes_in"), long("BytesOut", "bytes_out"), text("OperationId", "request"), role}},
		{Name: "AppDependencies", From: "requests WHERE endpoint <> ''", Columns: []kql.Column{
			id, text("Name", shownName), text("Target", "endpoint"), text("DependencyType", "protocol"), good, result, real("DurationMs", "took"), weight,
			text("Pool", "pool"), text("Route", "route"), long("Attempts", "attempts"), text("OperationId", "request"), role}},
		{Name: "AppAvailabilityResults", From: "checks", Columns: []kql.Column{
			at, text("Name", "name"), text("Location", "location"), {Name: "Success", Type: kql.Bool, SQL: "success"}, real("DurationMs", "took"), text("Message", "message"),
			text("Source", "source"), props, one, role}},
		{Name: "AppMetrics", From: "metrics", Columns: []kql.Column{at, text("Name", "name"), real("Sum", "value"), real("Min", "value"), real("Max", "value"), one, props, role}},
		{Name: "AppRequestsRollup", From: "requests_rollup", Columns: []kql.Column{
			at, text("Route", "route"), text("Pool", "pool"), text("Class", "class"), text("ResultClass", "result"), text("Reason", "reason"),
			real("ItemCount", "items"), long("Records", "records"), real("DurationMsSum", "took"), real("DurationMsMax", "took_max"), role}},
		{Name: "AppEventsRollup", From: "events_rollup", Columns: []kql.Column{at, text("Name", "kind"), long("ItemCount", "items"), role}},
	}
}

// views make the same tables for SQL, with moments as texts. Id and TimeNs are the moments as numbers, which the order of the rows knows.
func views(siteName string) []string {
	var out []string
	for _, t := range Tables(siteName) {
		var parts []string
		for _, c := range t.Columns {
			sql := c.SQL
			if c.Type == kql.DateTime {
				parts = append(parts, sql+` AS "TimeNs"`)
				sql = "strftime('%Y-%m-%dT%H:%M:%fZ', " + sql + " / 1e9, 'unixepoch')"
			}
			parts = append(parts, sql+` AS "`+c.Name+`"`)
		}
		out = append(out, `CREATE TEMP VIEW "`+t.Name+`" AS SELECT `+strings.Join(parts, ", ")+" FROM main."+t.From)
	}
	return out
}

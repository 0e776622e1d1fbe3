package journal

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"regexp"
	"sync/atomic"

	"modernc.org/sqlite"

	"github.com/even-keel/evenkeel/monitor/kql"
)

// newDriver makes a driver with the functions that KQL is compiled to. Connections of a reader have the views, and can do nothing but read.
func newDriver(reader bool, siteName string) *sqlite.Driver {
	d := new(sqlite.Driver)
	for _, f := range []struct {
		name string
		args int32
		run  func(args []driver.Value) (driver.Value, error)
	}{
		{"kql_has", 2, func(a []driver.Value) (driver.Value, error) { return kql.Has(text(a[0]), text(a[1])), nil }},
		{"kql_matches", 2, withPattern(1, func(p *regexp.Regexp, a []driver.Value) driver.Value { return p.MatchString(text(a[0])) })},
		{"kql_extract", 3, withPattern(0, func(p *regexp.Regexp, a []driver.Value) driver.Value {
			group, _ := a[1].(int64)
			return kql.Extract(p, int(group), text(a[2]))
		})},
	} {
		d.MustRegisterDeterministicScalarFunction(f.name, f.args, func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) { return f.run(args) })
	}
	d.MustRegisterFunction("kql_percentile", &sqlite.FunctionImpl{NArgs: 2, Deterministic: true,
		MakeAggregate: func(sqlite.FunctionContext) (sqlite.AggregateFunction, error) { return new(percentile), nil }})
	if reader {
		d.RegisterConnectionHook(func(c sqlite.ExecQuerierContext, _ string) error { return confine(c, siteName) })
	}
	return d
}

// confine makes the views on a connection, and then forbids all but reading.
func confine(c sqlite.ExecQuerierContext, siteName string) error {
	for _, view := range views(siteName) {
		if _, err := c.ExecContext(context.Background(), view, nil); err != nil {
			return err
		}
	}
	guarded, is := c.(sqlite.AuthorizerRegisterer)
	if !is {
		return errors.New("the connection takes no authorizer")
	}
	return guarded.RegisterAuthorizer(func(action sqlite.AuthorizerActionCode, _, name, _, _ string) sqlite.AuthorizerReturnCode {
		switch action {
		case sqlite.AuthSelect, sqlite.AuthRead, sqlite.AuthRecursive:
			return sqlite.AuthorizerOK
		case sqlite.AuthFunction:
			if name != "load_extension" {
				return sqlite.AuthorizerOK
			}
		}
		return sqlite.AuthorizerDeny
	})
}

// text is a value as text; NULL is empty.
func text(v driver.Value) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	case nil:
		return ""
	}
	return fmt.Sprint(v)
}

// withPattern compiles the argument at a place, and keeps the last: a question has one pattern and many rows.
func withPattern(at int, run func(*regexp.Regexp, []driver.Value) driver.Value) func([]driver.Value) (driver.Value, error) {
	var last atomic.Pointer[regexp.Regexp]
	return func(args []driver.Value) (driver.Value, error) {
		p := last.Load()
		if want := text(args[at]); p == nil || p.String() != want {
			var err error
			if p, err = regexp.Compile(want); err != nil {
				return nil, err
			}
			last.Store(p)
		}
		return run(p, args), nil
	}
}

// percentile is the aggregate kql_percentile.
type percentile struct {
	sketch kql.Sketch
	share  float64
}

// Step implements sqlite.AggregateFunction.
func (p *percentile) Step(_ *sqlite.FunctionContext, args []driver.Value) error {
	p.share = float(args[1])
	if args[0] != nil {
		p.sketch.Add(float(args[0]))
	}
	return nil
}

// WindowInverse implements sqlite.AggregateFunction. Windows are not moved.
func (p *percentile) WindowInverse(*sqlite.FunctionContext, []driver.Value) error {
	return errors.New("kql_percentile is no window function")
}

// WindowValue implements sqlite.AggregateFunction.
func (p *percentile) WindowValue(*sqlite.FunctionContext) (driver.Value, error) {
	if v, ok := p.sketch.Percentile(p.share); ok {
		return v, nil
	}
	return nil, nil
}

// Final implements sqlite.AggregateFunction.
func (p *percentile) Final(*sqlite.FunctionContext) {}

func float(v driver.Value) float64 {
	switch v := v.(type) {
	case int64:
		return float64(v)
	case float64:
		return v
	}
	return 0
}

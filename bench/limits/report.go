package limits

import (
	"fmt"
	"io"
	"text/tabwriter"
)

const (
	bytesHold = 32.0  // per key
	nsHold    = 100.0 // of a check whose key is in the caches
)

// finish makes medians of rounds, without the making of keys, and says what is expected and whether it holds.
func (r *report) finish(all []measure) {
	base := r.Rows[0]
	ours := 0
	for i := range r.Rows {
		one := &r.Rows[i]
		if one.Limiter == nameEvenkeel {
			ours = i
		}
		for _, m := range all {
			values := one.rounds[m.name]
			if i > 0 {
				for k := range values {
					values[k] = max(0, values[k]-spanOf(base.rounds[m.name]).Median)
				}
			}
			one.NS[m.name] = spanOf(values)
		}
	}
	r.Held = true
	expect := func(ok bool, format string, args ...any) {
		word := "held"
		if !ok {
			word, r.Held = "NOT HELD", false
		}
		r.Expected = append(r.Expected, word+": "+fmt.Sprintf(format, args...))
	}
	e := r.Rows[ours]
	if r.Keys >= 100_000 { // fewer do not show it
		expect(e.BytesPerKey <= bytesHold, "%.1f bytes per key, at most %.0f", e.BytesPerKey, bytesHold)
	}
	few := all[0].name
	expect(e.NS[few].Median <= nsHold, "%.0f ns per check whose key is in the caches, at most %.0f", e.NS[few].Median, nsHold)
	for _, m := range all {
		for _, rival := range r.Rows[ours+1:] {
			expect(e.NS[m.name].Median <= rival.NS[m.name].Median, "%s: %.0f ns, %s takes %.0f", m.name, e.NS[m.name].Median, rival.Limiter, rival.NS[m.name].Median)
		}
	}
}

// print writes the table.
func (r *report) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	all := measures()
	fmt.Fprintf(w, "ns per check, %d rounds\t", r.Rounds)
	for _, m := range all {
		fmt.Fprintf(w, "%s\t", m.name)
	}
	fmt.Fprintf(w, "bytes per key\n")
	for _, one := range r.Rows {
		fmt.Fprintf(w, "%s\t", one.Limiter)
		for _, m := range all {
			s := one.NS[m.name]
			fmt.Fprintf(w, "%.0f (%.0f to %.0f)\t", s.Median, s.Min, s.Max)
		}
		fmt.Fprintf(w, "%.1f\n", one.BytesPerKey)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, e := range r.Expected {
		if _, err := fmt.Fprintln(out, e); err != nil {
			return err
		}
	}
	return nil
}

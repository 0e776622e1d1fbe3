package cost

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// facts are what the figures depend on.
type facts struct {
	Processor    string            `json:"processor"`
	Cores        int               `json:"cores"`
	Kernel       string            `json:"kernel"`
	Go           string            `json:"go"`
	Congestion   string            `json:"congestion_control"`
	OwnNamespace bool              `json:"own_namespace"`
	ProxyCPU     []int             `json:"proxy_cores"`
	LoadCPU      []int             `json:"load_cores"`
	Versions     map[string]string `json:"versions"`
}

// report is the result of a run.
type report struct {
	Machine facts     `json:"machine"`
	Rounds  int       `json:"rounds"`
	Seconds int       `json:"seconds"`
	Cases   []*table  `json:"cases"`
	Bounds  []verdict `json:"expectations"`
}

// table is one case.
type table struct {
	Case      string `json:"case"`
	Unit      string `json:"unit"`
	Repeated  int    `json:"repeated"`  // rounds that other work disturbed and that were taken again
	Disturbed int    `json:"disturbed"` // rounds that were kept although disturbed, since too many were
	Rows      []*row `json:"rows"`
}

// row is one proxy in one case.
type row struct {
	Proxy   string   `json:"proxy"`
	Cost    span     `json:"cost"`
	User    span     `json:"user"` // the part of Cost in user space
	Rate    span     `json:"rate"` // each second; GB/s for bulk
	PSS     span     `json:"pss"`  // bytes after load
	Ratio   span     `json:"ratio"`
	Invalid string   `json:"invalid,omitempty"` // why the case says nothing about this proxy
	Rounds  []sample `json:"rounds"`
}

// sample is one turn of load.
type sample struct {
	Cost  float64 `json:"cost"`
	User  float64 `json:"user"`
	Rate  float64 `json:"rate"`
	PSS   int64   `json:"pss"`
	Other float64 `json:"other"` // share of the proxy core that other work took
}

// verdict is what became of an expectation.
type verdict struct {
	Text    string  `json:"text"`
	Value   float64 `json:"value"`
	Verdict string  `json:"verdict"` // held, NOT HELD, INVALID
	Why     string  `json:"why,omitempty"`
}

// sum makes spans of the rounds.
func (t *table) sum(reference string) {
	column := func(r *row, of func(sample) float64) (values []float64) {
		for _, s := range r.Rounds {
			values = append(values, of(s))
		}
		return values
	}
	cost := func(s sample) float64 { return s.Cost }
	for _, r := range t.Rows {
		r.Cost = spanOf(column(r, cost))
		r.User = spanOf(column(r, func(s sample) float64 { return s.User }))
		r.Rate = spanOf(column(r, func(s sample) float64 { return s.Rate }))
		r.PSS = spanOf(column(r, func(s sample) float64 { return float64(s.PSS) }))
		if ref := t.row(reference); ref != nil && ref.Invalid == "" && r.Invalid == "" {
			r.Ratio = spanOf(ratios(column(r, cost), column(ref, cost)))
		}
	}
}

// row finds a proxy.
func (t *table) row(name string) *row {
	for _, r := range t.Rows {
		if r.Proxy == name {
			return r
		}
	}
	return nil
}

// judge compares with what is expected and gives the exit code.
func (r *report) judge(bounds []bound) (code int) {
	for _, b := range bounds {
		v := verdict{Text: b.text, Verdict: "INVALID", Why: "was not measured"}
		for _, t := range r.Cases {
			if own := t.row(evenkeel); t.Case == b.kase && own != nil {
				v.Value = map[string]float64{"ratio": own.Ratio.Median, "cost": own.Cost.Median, "rate": own.Rate.Median}[b.what]
				v.Why = own.Invalid
				switch {
				case own.Invalid != "":
				case v.Value == 0:
					v.Why = "there is nothing to compare with"
				case b.holds(v.Value):
					v.Verdict = "held"
				default:
					v.Verdict = "NOT HELD"
				}
			}
		}
		switch v.Verdict {
		case "INVALID":
			code = silent
		case "NOT HELD":
			code = max(code, notHeld)
		}
		r.Bounds = append(r.Bounds, v)
	}
	for _, t := range r.Cases {
		if own := t.row(evenkeel); own == nil || own.Invalid != "" {
			code = silent
		}
	}
	return code
}

func (r *report) print(out io.Writer) {
	m := r.Machine
	fmt.Fprintf(out, "%s, %d cores; Linux %s; TCP %s", m.Processor, m.Cores, m.Kernel, m.Congestion)
	if !m.OwnNamespace {
		fmt.Fprint(out, " (no network namespace of its own)")
	}
	for _, name := range slices.Sorted(maps.Keys(m.Versions)) {
		fmt.Fprintf(out, "; %s %s", name, m.Versions[name])
	}
	fmt.Fprintf(out, "; built with %s\nproxy on core %v, load and service on core %v; %d rounds of %d s; median [min-max]\n\n", m.Go, m.ProxyCPU, m.LoadCPU, r.Rounds, r.Seconds)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "case\tproxy\tCPU or memory\tof it user\tratio\trate/s\tPSS MB\t")
	for _, t := range r.Cases {
		for i, p := range t.Rows {
			name := t.Case
			if i > 0 {
				name = ""
			}
			if p.Invalid != "" {
				fmt.Fprintf(w, "%s\t%s\tINVALID: %s\n", name, p.Proxy, strings.ReplaceAll(p.Invalid, "\n", " "))
				continue
			}
			ratio, user, rate := "-", "-", "-"
			if p.Ratio.Median > 0 {
				ratio = fmt.Sprintf("%.2f [%.2f-%.2f]", p.Ratio.Median, p.Ratio.Min, p.Ratio.Max)
			}
			if p.Rate.Median > 0 {
				user, rate = fmt.Sprintf("%.1f", p.User.Median), fmt.Sprintf("%.4g", p.Rate.Median)
			}
			fmt.Fprintf(w, "%s\t%s\t%.1f [%.1f-%.1f] %s\t%s\t%s\t%s\t%.1f\t\n", name, p.Proxy, p.Cost.Median, p.Cost.Min, p.Cost.Max, t.Unit, user, ratio, rate, p.PSS.Median/1e6)
		}
	}
	_ = w.Flush()
	for _, t := range r.Cases {
		if t.Repeated > 0 {
			fmt.Fprintf(out, "\n%s: other work took more than %.0f %% of the proxy core in %d rounds, which were repeated", t.Case, 100*otherShare, t.Repeated)
			if t.Disturbed > 0 {
				fmt.Fprintf(out, "; %d of the rounds shown were disturbed too", t.Disturbed)
			}
		}
	}
	fmt.Fprintln(out)
	for _, v := range r.Bounds {
		fmt.Fprintf(out, "%s: %.3g, %s", v.Text, v.Value, v.Verdict)
		if v.Why != "" {
			fmt.Fprintf(out, " (%s)", v.Why)
		}
		fmt.Fprintln(out)
	}
}

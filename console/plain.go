package console

import (
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// plainEvents is how many events the text shows; the rest is in the API.
const plainEvents = 5

// Plain writes v as text of fixed columns, without escape codes, for `evenkeel status` and for files.
func Plain(w io.Writer, v View) error {
	var b strings.Builder
	word, _ := nodeState(v.Node)
	b.WriteString(clean(v.Node.Name) + ": " + word + dash(v.Node.Why) + "\n")
	b.WriteString("evenkeel " + clean(v.Node.Version) + ", process " + strconv.Itoa(v.Node.PID) + ", up for " + upText(v.Node) + ", site " + orNone(v.Node.SiteRevision) + "\n")
	if l := v.Node.LastReload; l != nil && !l.OK {
		b.WriteString("the site file was refused at " + l.At.Format("15:04:05") + ", the old site stays in force:" + mistakesText(l.Error) + "\n")
	}
	b.WriteString(rateText(v.Totals.RPS) + " req/s, " + countText(uint64(max(v.Totals.Open, 0))) + " connections open, " + countText(v.Totals.Requests) + " requests, " +
		countText(v.Totals.Refused) + " refused, " + countText(v.Totals.Failed) + " failed\n")
	b.WriteString(bytesText(v.Node.Go.RSSBytes) + " memory, " + cpuText(v.Node) + " CPU, " + strconv.Itoa(v.Node.Go.FDs) + " of " + countText(v.Node.Go.FDLimit) + " files\n")
	for _, line := range loadLines(v) {
		b.WriteString(line + "\n")
	}
	for _, p := range v.Pools {
		b.WriteString("\npool " + poolText(p) + "\n")
		poolGrid(p, p.Endpoints).write(&b, "  ")
	}
	if len(v.Listeners) > 0 {
		b.WriteString("\nlisteners\n")
		listenerGrid(v.Listeners).write(&b, "  ")
	}
	if len(v.Routes) > 0 {
		b.WriteString("\nroutes\n")
		routeGrid(v.Routes).write(&b, "  ")
	}
	if len(v.Events) > 0 {
		b.WriteString("\nevents\n")
		eventGrid(v.Events[:min(plainEvents, len(v.Events))]).write(&b, "  ")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func upText(n Node) string  { return spanText(seconds(n.UptimeS)) }
func cpuText(n Node) string { return spanText(seconds(n.Go.CPUS)) }

// poolText is a pool in one line.
func poolText(p Pool) string {
	s := clean(p.Name) + ": " + strconv.Itoa(upCount(p)) + " of " + strconv.Itoa(len(p.Endpoints)) + " up, " + percentText(p.HealthyShare) + " of capacity, " +
		rateText(p.RPS) + " req/s, " + clean(p.Method)
	if p.Panic {
		s += "; too little is healthy: sick endpoints are used too"
	}
	if text := breakerText(p.Breaker); text != "" {
		s += "; " + text
	}
	if text := bulkheadText(p.Bulkhead); text != "" {
		s += "; " + text
	}
	if p.Held != "" {
		s += "; the last good set is kept: " + clean(p.Held)
	}
	return s
}

// poolGrid is the endpoints of p, those of list, as a table.
func poolGrid(p Pool, list []Endpoint) grid {
	g := grid{
		head:  []string{"endpoint", "state", "share", "req/s", "in flight", "latency", "failures", "why"},
		right: []bool{false, false, true, true, true, true, true, false},
	}
	for _, e := range list {
		g.add(e.Address, glyph(e.State)+" "+e.State, percentText(shareOf(p, e)), rateText(e.RPS), countText(uint64(max(e.InFlight, 0))), msText(latencyOf(e)), countText(e.Failures), e.Why)
	}
	return g
}

func listenerGrid(list []Listener) grid {
	g := grid{
		head:  []string{"name", "address", "speaks", "open", "req/s", "accepted", "refused", "in", "out"},
		right: []bool{false, false, false, true, true, true, true, true, true},
	}
	for _, l := range list {
		speaks := l.Protocol
		if l.TLS {
			speaks += ", tls"
		}
		g.add(l.Name, l.Address, speaks, countText(uint64(max(l.Open, 0))), rateText(l.RPS), countText(l.Accepted), countText(refused(l.Refused)), bytesText(l.BytesIn), bytesText(l.BytesOut))
	}
	return g
}

func routeGrid(list []Route) grid {
	g := grid{
		head:  []string{"name", "goes to", "class", "req/s", "2xx", "3xx", "4xx", "5xx", "refused", "p50", "p99"},
		right: []bool{false, false, false, true, true, true, true, true, true, true, true},
	}
	for _, r := range list {
		g.add(r.Name, r.Pool, r.Class, rateText(r.RPS), countText(r.Status["2xx"]), countText(r.Status["3xx"]), countText(r.Status["4xx"]), countText(r.Status["5xx"]),
			countText(refused(r.Refused)), msText(r.P50MS), msText(r.P99MS))
	}
	return g
}

func eventGrid(list []Event) grid {
	g := grid{right: []bool{false, false, false}}
	for _, e := range list {
		g.add(e.At.Format("15:04:05"), e.Kind, e.Text)
	}
	return g
}

// grid is a table of text: columns as wide as their widest cell.
type grid struct {
	head  []string // nil: none
	right []bool   // columns set to the right
	rows  [][]string
}

func (g *grid) add(cells ...string) {
	for i := range cells {
		cells[i] = clean(cells[i])
	}
	g.rows = append(g.rows, cells)
}

// widths are those of the columns, in runes: nothing shown here is wider than one cell.
func (g grid) widths() []int {
	w := make([]int, len(g.right))
	for _, row := range append([][]string{g.head}, g.rows...) {
		for i, c := range row {
			w[i] = max(w[i], utf8.RuneCountInString(c))
		}
	}
	return w
}

// line sets one row to the widths.
func (g grid) line(row []string, widths []int) string {
	var b strings.Builder
	for i, c := range row {
		if i > 0 {
			b.WriteString("  ")
		}
		b.WriteString(pad(c, widths[i], g.right[i]))
	}
	return strings.TrimRight(b.String(), " ")
}

func (g grid) write(b *strings.Builder, indent string) {
	w := g.widths()
	if g.head != nil {
		b.WriteString(indent + g.line(g.head, w) + "\n")
	}
	for _, r := range g.rows {
		b.WriteString(indent + g.line(r, w) + "\n")
	}
}

// pad fills s up to width runes.
func pad(s string, width int, right bool) string {
	space := strings.Repeat(" ", max(0, width-utf8.RuneCountInString(s)))
	if right {
		return space + s
	}
	return s + space
}

// clean takes control characters out: reasons and names come from endpoints and files and must not steer a terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.In(r, unicode.Cf) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// mistakesText is what is wrong with a site file: behind what was said, or line by line below it.
func mistakesText(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	if len(lines) == 1 {
		return " " + clean(lines[0])
	}
	var b strings.Builder
	for _, line := range lines {
		b.WriteString("\n  " + clean(line))
	}
	return b.String()
}

// Clean takes control characters out of what is written to a terminal and was not made here.
func Clean(s string) string { return clean(s) }

func dash(s string) string {
	if s == "" {
		return ""
	}
	return ", " + clean(s)
}

func orNone(s string) string {
	if s == "" {
		return none
	}
	return clean(s)
}

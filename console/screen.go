package console

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/charmbracelet/lipgloss"
)

// ink is how the terminal view is coloured. It uses the sixteen colours of the terminal's own scheme, so that it
// fits light and dark ones without asking which it is.
type ink struct {
	name, soft, head, row, sea lipgloss.Style
	tones                      map[string]lipgloss.Style
}

func newInk(r *lipgloss.Renderer) ink {
	color := func(c string) lipgloss.Style { return r.NewStyle().Foreground(lipgloss.Color(c)) }
	return ink{
		name: r.NewStyle().Bold(true), soft: r.NewStyle().Faint(true), head: r.NewStyle().Faint(true), row: r.NewStyle().Reverse(true), sea: color("6"),
		tones: map[string]lipgloss.Style{"good": color("2"), "bad": color("1").Bold(true), "warn": color("3"), "calm": r.NewStyle().Faint(true)},
	}
}

// View is the whole screen: what it does now, endpoints by pool, listeners, events, and a line of keys.
func (m top) View() string {
	if m.help {
		return m.fit(m.helpLines(), m.foot())
	}
	lines := m.headLines()
	if m.load {
		return m.fit(append(lines, m.loadBody(m.height-len(lines)-1)...), m.foot())
	}
	tail := m.tailLines(m.height - len(lines) - 1)
	room := max(3, m.height-len(lines)-len(tail)-1)
	body := m.bodyLines(room)
	for len(body) < room {
		body = append(body, "")
	}
	return m.fit(append(append(lines, body...), tail...), m.foot())
}

// fit cuts the screen to the terminal's size and sets the last line at the bottom.
func (m top) fit(lines []string, foot string) string {
	rows := max(1, m.height-1)
	if len(lines) > rows {
		lines = lines[:rows]
	}
	for len(lines) < rows {
		lines = append(lines, "")
	}
	lines = append(lines, foot)
	cut := lipgloss.NewStyle().MaxWidth(max(1, m.width))
	for i := range lines {
		lines[i] = cut.Render(lines[i])
	}
	return strings.Join(lines, "\n")
}

func (m top) headLines() []string {
	v, n := m.view, m.view.Node
	word, mood := nodeState(n)
	sign := "● "
	if mood != "good" {
		sign = "▲ "
	}
	first := m.ink.name.Render(clean(n.Name)) + "  " + m.ink.tones[mood].Render(sign+word+dash(n.Why))
	if text, mood := loadWord(m.view.Overload.State); mood != "good" {
		first += "  " + m.ink.tones[mood].Render(text)
	}
	right := m.ink.soft.Render("evenkeel " + clean(n.Version) + " · up " + upText(n))
	lines := []string{m.apart(first, right), ""}
	rate := pad(rateText(v.Totals.RPS), 9, true) + " req/s "
	lines = append(lines, m.ink.name.Render(rate)+" "+m.ink.sea.Render(spark(m.rates, m.width-len(rate)-2)))
	lines = append(lines, m.ink.soft.Render(clip("   open "+countText(uint64(max(v.Totals.Open, 0)))+" · refused "+countText(v.Totals.Refused)+" · failed "+countText(v.Totals.Failed)+
		" · memory "+bytesText(n.Go.RSSBytes)+" · CPU "+cpuText(n)+" · files "+strconv.Itoa(n.Go.FDs)+" of "+countText(n.Go.FDLimit), m.width)))
	if m.err != nil {
		lines = append(lines, m.ink.tones["bad"].Render(clip("▲ "+clean(m.err.Error())+"; the figures are from "+v.At.Format("15:04:05"), m.width)))
	}
	if l := n.LastReload; l != nil && !l.OK {
		lines = append(lines, m.ink.tones["bad"].Render(clip("▲ the site file was refused: "+clean(l.Error), m.width)))
	}
	return append(append(lines, ""), m.needLines()...)
}

// apart sets one text to the left and one to the right, when both fit.
func (m top) apart(left, right string) string {
	gap := m.width - lipgloss.Width(left) - lipgloss.Width(right)
	if gap < 2 {
		return left
	}
	return left + strings.Repeat(" ", gap) + right
}

// bodyLines are the endpoints by pool, scrolled so that the selected one is seen.
func (m top) bodyLines(room int) []string {
	g := poolGrid(Pool{}, nil)
	wide := 11 // cells of the share's bar
	if g.head[2] = "share of traffic"; m.width < 96 {
		g.head[2], wide = "share", 4
	}
	if m.width >= latelyFrom {
		g.head, g.right = slices.Insert(g.head, latelyAt, "lately"), slices.Insert(g.right, latelyAt, false)
	}
	var blocks []block
	for _, p := range m.view.Pools {
		list := m.shown(p)
		if len(list) == 0 && m.filter != "" {
			continue
		}
		rows := poolGrid(p, list).rows
		for i, r := range rows {
			r[2] = bar(shareOf(p, list[i]), wide) + pad(r[2], 5, true)
			if m.width >= latelyFrom {
				rows[i] = slices.Insert(r, latelyAt, spark(m.lately[place{p.Name, list[i].Address}], latelyWide))
			}
		}
		g.rows = append(g.rows, rows...)
		blocks = append(blocks, block{p, list, rows})
	}
	if len(blocks) == 0 {
		return []string{m.ink.soft.Render("  nothing matches " + strconv.Quote(m.filter))}
	}
	widths := g.widths()
	widths[1], widths[3] = max(widths[1], len("● draining")-2), max(widths[3], 7) // so that columns stand still while figures change
	widths[len(widths)-1] = 0                                                     // the reason takes what is left
	airy := 2*len(blocks)+len(g.rows) < room                                      // an empty line between pools
	var lines []string
	at, top := 0, 0 // lines of the selected endpoint and of its pool
	for i, b := range blocks {
		if airy && i > 0 {
			lines = append(lines, "")
		}
		if b.pool.Name == m.at.pool {
			top = len(lines)
		}
		lines = append(lines, m.poolLine(b.pool))
		for i, r := range b.rows {
			if m.at == (place{b.pool.Name, b.list[i].Address}) {
				at = len(lines)
			}
			lines = append(lines, m.rowLine(g, r, widths, b.pool.Name, b.list[i]))
		}
	}
	head := m.ink.head.Render(clip("  "+g.line(g.head, widths), m.width))
	return append([]string{head}, window(lines, top, at, room-1)...)
}

// latelyAt is the column of the curves: behind the rate.
const latelyAt = 4

// block is the rows of one pool.
type block struct {
	pool Pool
	list []Endpoint
	rows [][]string
}

func (m top) poolLine(p Pool) string {
	mood := "good"
	switch {
	case p.Panic:
		mood = "bad"
	case p.HealthyShare < 1:
		mood = "warn"
	}
	text := strings.TrimPrefix(poolText(p), clean(p.Name)+": ")
	return m.ink.name.Render(clip(clean(p.Name), m.width)) + " " + m.ink.tones[mood].Render(clip(text, m.width-utf8.RuneCountInString(p.Name)-1))
}

// rowLine is one endpoint; the selected one is shown reversed and with a mark.
func (m top) rowLine(g grid, row []string, widths []int, pool string, e Endpoint) string {
	if m.at == (place{pool, e.Address}) {
		return m.ink.row.Render(pad(clip("› "+g.line(row, widths), m.width), m.width, false))
	}
	line := clip("  "+g.line(row, widths), m.width)
	// The state and the share are coloured where they stand: padding is done before, so that colour moves nothing.
	state := pad(row[1], widths[1], false)
	share, _, _ := strings.Cut(row[2], " ")
	line = strings.Replace(line, state, m.ink.tones[tone(e.State)].Render(state), 1)
	if strings.ContainsAny(share, "█▏▎▍▌▋▊▉") {
		line = strings.Replace(line, share, m.ink.sea.Render(share), 1)
	}
	if m.width >= latelyFrom {
		line = strings.Replace(line, row[latelyAt], m.ink.sea.Render(row[latelyAt]), 1)
	}
	return line
}

// tailLines are listeners and events, as many as fit into a little less than half of room.
func (m top) tailLines(room int) []string {
	room = room * 2 / 5
	var lines []string
	if n := len(m.view.Listeners); n > 0 && room >= 4 {
		shown := m.view.Listeners[:min(n, max(1, (room-4)/2))]
		g := listenerGrid(shown)
		w := g.widths()
		lines = append(lines, "", m.ink.head.Render(clip("  "+g.line(g.head, w), m.width)))
		for _, r := range g.rows {
			lines = append(lines, clip("  "+g.line(r, w), m.width))
		}
		if more := n - len(shown); more > 0 {
			lines[len(lines)-1] += m.ink.soft.Render("  and " + strconv.Itoa(more) + " more")
		}
	}
	if left := room - len(lines) - 1; left > 0 && len(m.view.Events) > 0 {
		g := eventGrid(m.view.Events[:min(left, len(m.view.Events))])
		w := g.widths()
		lines = append(lines, "")
		for _, r := range g.rows {
			lines = append(lines, m.ink.soft.Render(clip("  "+g.line(r, w), m.width)))
		}
	}
	return lines
}

// foot is the last line: a question, the filter, what was just done, or the keys.
func (m top) foot() string {
	switch {
	case m.question != nil:
		verb := map[string]string{AdminDrain: "drain ", AdminUp: "put back ", AdminDown: "take down "}[m.question.state]
		return m.ink.tones["warn"].Render(clip(" "+verb+clean(m.question.at.address)+" in pool "+clean(m.question.at.pool)+"?  y yes · any other key no", m.width))
	case m.typing:
		return clip(" show only: "+m.filter+"▏", m.width)
	case m.said.bad:
		return m.ink.tones["bad"].Render(clip(" ▲ "+clean(m.said.text), m.width))
	case m.said.text != "":
		return m.ink.tones["good"].Render(clip(" "+clean(m.said.text), m.width))
	case m.help:
		return m.ink.soft.Render(" any key goes back")
	}
	if m.load {
		return m.ink.soft.Render(clip(" q quit · o endpoints · ? help · refuse by hand: evenkeel shed low --for 10m", m.width))
	}
	keys := " q quit · o overload · ↑↓ select · tab next pool · d drain · x down · u up · s sort: " + orders[m.order] + " · / filter · ? help"
	if m.filter != "" {
		keys = " filter " + strconv.Quote(m.filter) + ", esc shows all ·" + keys
	}
	return m.ink.soft.Render(clip(keys, m.width))
}

func (m top) helpLines() []string {
	lines := []string{m.ink.name.Render("Keys"), ""}
	for _, k := range [][2]string{
		{"↑ ↓ or k j", "select an endpoint"}, {"tab", "go to the next pool; shift+tab to the one before"},
		{"d", "drain: it finishes what it has and gets nothing new"}, {"x", "take down: it gets nothing from now on"},
		{"u", "put back: it takes traffic as soon as its probe allows"}, {"s", "sort within pools: " + strings.Join(orders, ", ")},
		{"/", "show only what matches pool, address, zone, state or reason; esc shows all"}, {"o", "overload: what each class asks for, how full pools are, who is refused and why; again: endpoints"}, {"q", "quit"},
	} {
		lines = append(lines, "  "+pad(k[0], 12, false)+k[1])
	}
	lines = append(lines, "", m.ink.name.Render("States"), "")
	for _, s := range [][2]string{
		{StateUp, "healthy, takes its share"}, {StateSlow, "healthy again, its share still grows"}, {StateSick, "its probe fails"},
		{StateEjected, "requests to it failed"}, {StateUnknown, "no verdict yet"}, {StateDraining, "finishes what it has"}, {StateDown, "taken out by hand"},
	} {
		lines = append(lines, "  "+m.ink.tones[tone(s[0])].Render(pad(glyph(s[0])+" "+s[0], 12, false))+s[1])
	}
	return lines
}

// window is at most room of lines: those around line at, under line top, the heading of what at belongs to.
func window(lines []string, top, at, room int) []string {
	room = max(1, room)
	if len(lines) <= room {
		return slices.Clone(lines)
	}
	from := min(max(0, at+2-room), len(lines)-room)
	shown := slices.Clone(lines[from : from+room])
	if from > top && at > from {
		shown[0] = lines[top]
	}
	return shown
}

// spark draws the last values as blocks, the newest at the right; the highest fills the line.
func spark(list []float64, width int) string {
	if width < 1 {
		return ""
	}
	list = list[max(0, len(list)-width):]
	top := 1.0
	for _, v := range list {
		top = max(top, v)
	}
	blocks := []rune("▁▂▃▄▅▆▇█")
	b := []rune(strings.Repeat(" ", width-len(list)))
	for _, v := range list {
		i := 0
		if v > 0 {
			i = int(math.Round(v / top * float64(len(blocks)-1)))
		}
		b = append(b, blocks[min(max(i, 0), len(blocks)-1)])
	}
	return string(b)
}

// bar is a share as a bar of eighths.
func bar(share float64, width int) string {
	eighths := int(math.Round(min(max(share, 0), 1) * float64(width) * 8))
	s := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		s += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	return pad(s, width, false)
}

// clip cuts s to width cells and marks that it did.
func clip(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	if width < 1 {
		return ""
	}
	return string([]rune(s)[:width-1]) + "…"
}

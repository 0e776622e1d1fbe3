package console

import (
	"strconv"
	"strings"
)

// Limits of the overload section in text: the rest is on the page and in the API.
const (
	textKinds = 5
	textKeys  = 3
)

// loadLines says in plain words how the node is loaded, who is refused and why; one line when there is nothing to tell.
func loadLines(v View) []string {
	o := v.Overload
	word, _ := loadWord(o.State)
	lines := []string{"load: " + word + dash(o.Why)}
	busy := o.State == LoadOver || o.State == LoadNear || o.refusedRPS() >= noticeable
	if busy {
		for _, c := range o.Classes {
			if c.DemandRPS >= noticeable {
				lines = append(lines, "  "+classText(c))
			}
		}
		for _, p := range o.Pools {
			if p.State == LoadOver || p.State == LoadNear {
				lines = append(lines, "  pool "+clean(p.Pool)+": "+flightText(p))
			}
		}
		for i, r := range o.Refused {
			if i < textKinds && r.RPS >= noticeable {
				lines = append(lines, "  "+kindText(r))
			}
		}
		for _, l := range o.Limits {
			if l.RefusedRPS >= noticeable && len(l.Top) > 0 {
				lines = append(lines, "  limit "+clean(l.Name)+" refuses most: "+topText(l.Top))
			}
		}
	}
	for _, p := range o.Pools {
		if hand := p.handWords(v.At); hand != "" {
			lines = append(lines, "  pool "+clean(p.Pool)+": refused by hand: "+hand)
		}
	}
	if o.Guard != nil {
		for _, w := range o.Guard.Warnings {
			lines = append(lines, "  warning: "+clean(w))
		}
	}
	return lines
}

// classText is what a class asks for, and what of it is admitted.
func classText(c ClassLoad) string {
	text := pad(c.Class, 8, false) + " " + rateText(c.DemandRPS) + "/s asked for, "
	if c.RefusedRPS < noticeable {
		return text + "all admitted"
	}
	return text + percentText(partOf(c.AdmittedRPS, c.DemandRPS)) + " admitted"
}

// flightText is how full a pool is.
func flightText(p PoolLoad) string {
	text := strconv.Itoa(p.InFlight) + " at endpoints"
	if p.Limit > 0 {
		text += " of " + rateText(p.Limit) + " that fit"
	}
	if p.Waiting > 0 {
		text += ", " + strconv.Itoa(p.Waiting) + " waiting, " + msText(p.QueueMS) + " in the queue"
	}
	if p.LowOff {
		text += ", low refused as a whole"
	}
	return text + ", median " + msText(p.P50MS) + ", 99th " + msText(p.P99MS)
}

// kindText is one kind of refusals.
func kindText(r RefusedLoad) string {
	text := rateText(r.RPS) + "/s "
	if r.Class != "" {
		text += r.Class + " "
	}
	text += "refused by " + clean(r.Stage)
	if r.Limit != "" {
		text += " " + clean(r.Limit)
	}
	text += " (" + clean(r.Reason) + ")"
	if words := refusedWords(r.Stage, r.Reason); words != "" {
		text += ": " + words
	}
	return text
}

// topText lists the keys that a limit refuses most.
func topText(list []KeyLoad) string {
	var words []string
	for i, k := range list {
		if i < textKeys {
			words = append(words, clip(clean(k.Key), 60)+" ("+countText(k.Refused)+")")
		}
	}
	return strings.Join(words, ", ")
}

// loadPoolGrid is how full pools are, as a table.
func loadPoolGrid(list []PoolLoad) grid {
	g := grid{
		head:  []string{"pool", "load", "at once", "limit", "waiting", "queue", "can do/s", "asked/s", "refused/s", "median", "99th"},
		right: []bool{false, false, true, true, true, true, true, true, true, true, true},
	}
	for _, p := range list {
		word, _ := loadWord(p.State)
		all := p.sum()
		limit := none
		if p.Limit > 0 {
			limit = rateText(p.Limit)
		}
		can := none
		if p.CapacityPerSecond > 0 {
			can = rateText(p.CapacityPerSecond)
		}
		g.add(p.Pool, word, strconv.Itoa(p.InFlight), limit, strconv.Itoa(p.Waiting), msText(p.QueueMS), can, rateText(all.DemandRPS), rateText(all.RefusedRPS), msText(p.P50MS), msText(p.P99MS))
	}
	return g
}

// limitGrid is limits and quotas as a table.
func limitGrid(o Overload) grid {
	g := grid{head: []string{"limit", "allows", "keys", "refused", "now/s", "most refused"}, right: []bool{false, false, true, true, true, false}}
	for _, l := range o.Limits {
		g.add(l.Name, l.Allows(), countText(uint64(max(l.Keys, 0))), countText(l.Refused), rateText(l.RefusedRPS), topText(l.Top))
	}
	for _, q := range o.Quotas {
		g.add(q.Name, q.Allows(), countText(uint64(max(q.Keys, 0))), countText(q.Refused), rateText(q.RefusedRPS), topText(q.Top))
	}
	return g
}

func kindGrid(list []RefusedLoad) grid {
	g := grid{head: []string{"refused because", "stage", "limit", "class", "now/s", "total", ""}, right: []bool{false, false, false, false, true, true, false}}
	for _, r := range list {
		g.add(r.Reason, r.Stage, orNone(r.Limit), orNone(r.Class), rateText(r.RPS), countText(r.Count), refusedWords(r.Stage, r.Reason))
	}
	return g
}

// loadBody is the overload view of the terminal: classes, pools, refusals, limits.
func (m top) loadBody(room int) []string {
	o := m.view.Overload
	_, mood := loadWord(o.State)
	lines := []string{m.ink.tones[mood].Render(clip(loadLines(m.view)[0], m.width)), ""}
	most, wide := wholeOf(o.Classes), max(8, min(48, m.width-50))
	lines = append(lines, m.ink.head.Render(clip("  class     "+pad("admitted █ of asked for ░", wide, false)+"    asked/s   admitted   refused/s", m.width)))
	for _, c := range o.Classes {
		asked, admitted := bar(partOf(c.DemandRPS, most), wide), bar(partOf(c.AdmittedRPS, most), wide)
		tone := m.ink.sea
		if c.RefusedRPS >= noticeable {
			tone = m.ink.tones["bad"]
		}
		lines = append(lines, "  "+pad(c.Class, 8, false)+"  "+m.ink.sea.Render(over(admitted, asked))+"  "+pad(rateText(c.DemandRPS), 9, true)+"  "+
			pad(percentText(partOf(c.AdmittedRPS, c.DemandRPS)), 9, true)+"  "+tone.Render(pad(rateText(c.RefusedRPS), 10, true)))
	}
	for i, g := range []grid{loadPoolGrid(o.pressed()), kindGrid(o.Refused), limitGrid(o)} {
		if len(g.rows) == 0 {
			continue
		}
		w := g.widths()
		lines = append(lines, "", m.ink.head.Render(clip("  "+g.line(g.head, w), m.width)))
		for j, r := range g.rows {
			line := clip("  "+g.line(r, w), m.width)
			if i == 0 {
				_, mood := loadWord(o.pressed()[j].State)
				word := pad(r[1], w[1], false)
				line = strings.Replace(line, word, m.ink.tones[mood].Render(word), 1)
			}
			lines = append(lines, line)
		}
	}
	for _, p := range o.Pools {
		if hand := p.handWords(m.view.At); hand != "" {
			lines = append(lines, "", m.ink.tones["warn"].Render(clip("  ■ pool "+clean(p.Pool)+": refused by hand: "+hand, m.width)))
		}
	}
	return lines[:min(len(lines), room)]
}

// over draws one bar over another: what is under it shows as a light one.
func over(front, behind string) string {
	f, b := []rune(front), []rune(behind)
	for i := range f {
		if f[i] == ' ' && b[i] != ' ' {
			f[i] = '░'
		}
	}
	return string(f)
}

package console

import (
	"html/template"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// pageFuncs are what templates of every page can call.
func pageFuncs(may bool) template.FuncMap {
	return template.FuncMap{
		"may":  func() bool { return may }, // whoever sees the page may change things
		"rate": rateText, "count": countText, "bytes": bytesText, "ms": msText, "percent": percentText,
		"share": shareOf, "due": dueOf, "latency": latencyOf, "glyph": glyph, "tone": tone, "upCount": upCount,
		"broken":  func(p Pool) string { return breakerText(p.Breaker) },
		"crowded": func(p Pool) string { return bulkheadText(p.Bulkhead) },
		"reasons": reasons, "sum": refused, "ticks": ticksOf, "rows": rowsOf,
		"word":     func(n Node) string { w, _ := nodeState(n); return w },
		"mood":     func(n Node) string { _, t := nodeState(n); return t },
		"span":     func(s float64) string { return spanText(seconds(s)) },
		"since":    func(now, t time.Time) string { return spanText(now.Sub(t)) },
		"until":    func(now, t time.Time) string { return spanText(t.Sub(now)) },
		"soon":     func(now, t time.Time) bool { return t.Sub(now) < 14*24*time.Hour },
		"stamp":    func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"clock":    func(t time.Time) string { return t.Format("15:04:05") },
		"points":   pointsOf,
		"loadText": func(state string) string { text, _ := loadWord(state); return text },
		"loadTone": func(state string) string { _, tone := loadWord(state); return tone },
		"because":  refusedWords, "keysText": keysText, "order": shedPath, "sentence": sentenceOf,
		"promiseText": func(state string) string { word, _ := objectiveWord(state); return word },
		"promiseTone": func(state string) string { _, tone := objectiveWord(state); return tone },
		"budget":      budgetText, "target": shareText, "burn": burnText, "detect": detectText,
		"bad":  func(o Objective) uint64 { return o.Total - min(o.GoodCount, o.Total) },
		"part": partOf, "drawn": drawnOf, "whole": wholeOf,
		"standIn": func(d *Degrade, now time.Time) any {
			return struct {
				*Degrade
				Now time.Time
			}{d, now}
		},
		"setSwitch": switchPath,
		"size":      func(n int64) uint64 { return uint64(max(n, 0)) },
		"num":       func(n int) uint64 { return uint64(max(n, 0)) },
		"pair": func(p Pool, now time.Time) any {
			return struct {
				Pool Pool
				Now  time.Time
			}{p, now}
		},
		"status": func(r Route, class string) any {
			return struct {
				Class string
				N     uint64
			}{class, r.Status[class]}
		},
		"action": endpointPath,
		"cut":    func(list []Event, n int) []Event { return list[:min(n, len(list))] },
		"join":   strings.Join,
		"int":    func(n int64) string { return countText(uint64(max(n, 0))) },
		"wide":   func(v float64) string { return strconv.FormatFloat(100*min(max(v, 0), 1), 'f', 1, 64) + "%" },
	}
}

// placeFuncs are what templates of single pages can call.
func placeFuncs() template.FuncMap {
	return template.FuncMap{
		"poolPath": poolPath, "hold": holdPath, "sign": signOf, "wellness": wellText, "wellTone": wellTone, "full": fullText, "cutText": cutText, "when": whenText,
		"stateOf":   func(p Pool) string { text, _ := poolState(p); return text },
		"stateTone": func(p Pool) string { _, tone := poolState(p); return tone },
		"day":       func(t time.Time) string { return t.Format("Jan 2 15:04:05") },
		"over":      func(a, b int) float64 { return partOf(float64(a), float64(b)) },
		"overBytes": func(a, b int64) float64 { return partOf(float64(a), float64(b)) },
		"purge":     func(route string) string { return "/api/v1/cache/purge?route=" + url.QueryEscape(route) },
		"told": func(list []Event, now time.Time, none string) any {
			return struct {
				List []Event
				Now  time.Time
				None string
			}{list, now, none}
		},
		"alertRows": func(list []Alert, now time.Time) any {
			return struct {
				List []Alert
				Now  time.Time
			}{list, now}
		},
	}
}

// Package dashboard makes files for others of what evenkeel shows and looks for: dashboards for Grafana, and a rule file with its alerts for Prometheus.
package dashboard

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Board is one dashboard.
type Board struct {
	Name  string // of its file, and its uid in Grafana
	Title string
	About string
	Vars  []Var
	Rows  []Row
}

// Var is a choice on top of a board, besides the data source and the instance.
type Var struct{ Name, Label, Metric string }

// Row is a line of panels with a title. They share its width.
type Row struct {
	Title  string
	Panels []Panel
}

// Panel is one chart.
type Panel struct {
	Title   string
	About   string
	Kind    string // Grafana's word: timeseries, stat, table, state-timeline
	Unit    string // Grafana's word: reqps, percentunit, s, bytes, short
	Stacked bool
	Max     float64   // of the axis; 0: as the values are
	Limits  []float64 // values worth a line: yellow, then red
	Rising  bool      // what is above the limit is well, and below not
	Queries []Query
}

// Query is one PromQL expression. $of in it becomes the choice of instances and of the board's variables.
type Query struct{ Expr, Legend string }

// of is the choice that a board makes.
func (b *Board) of() string {
	all := []string{`instance=~"$instance"`}
	for _, v := range b.Vars {
		all = append(all, v.Label+`=~"$`+v.Name+`"`)
	}
	return strings.Join(all, ",")
}

// expr is a query as Grafana sends it.
func (b *Board) expr(q Query) string {
	return strings.ReplaceAll(q.Expr, "$of", b.of())
}

// Exprs are all expressions of the board.
func (b *Board) Exprs() (out []string) {
	for _, r := range b.Rows {
		for _, p := range r.Panels {
			for _, q := range p.Queries {
				out = append(out, b.expr(q))
			}
		}
	}
	return out
}

type object = map[string]any

// Sizes in Grafana's grid, which is 24 wide.
const (
	gridWidth   = 24
	panelHeight = 8
	statHeight  = 4
)

// source is the data source that a board's user chooses.
func source() object { return object{"type": "prometheus", "uid": "${datasource}"} }

// JSON is the board as Grafana imports and provisions it.
func (b *Board) JSON() ([]byte, error) {
	vars := []object{
		{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": object{}, "hide": 0, "refresh": 1},
		variable("instance", "Instance", "label_values(evenkeel_build_info, instance)"),
	}
	for _, v := range b.Vars {
		vars = append(vars, variable(v.Name, strings.ToUpper(v.Name[:1])+v.Name[1:], fmt.Sprintf("label_values(%s{instance=~\"$instance\"}, %s)", v.Metric, v.Label)))
	}
	var panels []object
	y, id := 0, 0
	for _, r := range b.Rows {
		id++
		panels = append(panels, object{"id": id, "type": "row", "title": r.Title, "collapsed": false, "panels": []object{}, "gridPos": object{"h": 1, "w": gridWidth, "x": 0, "y": y}})
		y++
		height, width := statHeight, gridWidth/len(r.Panels)
		for _, p := range r.Panels {
			if p.Kind != "stat" {
				height = panelHeight
			}
		}
		for i, p := range r.Panels {
			id++
			one := b.panel(p)
			one["id"], one["gridPos"] = id, object{"h": height, "w": width, "x": i * width, "y": y}
			panels = append(panels, one)
		}
		y += height
	}
	return json.MarshalIndent(object{
		"uid": "evenkeel-" + b.Name, "title": b.Title, "description": b.About, "tags": []string{"evenkeel"}, "schemaVersion": 39, "version": 1, "editable": true,
		"graphTooltip": 1, "refresh": "30s", "time": object{"from": "now-1h", "to": "now"}, "timezone": "browser",
		"templating": object{"list": vars}, "panels": panels,
		"links": []object{{"type": "dashboards", "tags": []string{"evenkeel"}, "title": "evenkeel", "asDropdown": true, "keepTime": true, "includeVars": true}},
		"annotations": object{"list": []object{{
			"name": "Alerts", "datasource": source(), "enable": true, "iconColor": "red", "expr": `max by (alert) (evenkeel_alerts{instance=~"$instance",state="firing",severity!="none"}) > 0`,
			"titleFormat": "{{alert}}", "step": "30s",
		}}},
	}, "", "  ")
}

func variable(name, label, query string) object {
	return object{"name": name, "label": label, "type": "query", "datasource": source(), "query": query, "refresh": 2, "sort": 1, "multi": true, "includeAll": true, "allValue": ".*",
		"current": object{"text": "All", "value": "$__all"}}
}

// panel is p as Grafana has it.
func (b *Board) panel(p Panel) object {
	var targets []object
	for i, q := range p.Queries {
		t := object{"refId": string(rune('A' + i)), "datasource": source(), "expr": b.expr(q), "legendFormat": q.Legend}
		switch p.Kind {
		case "stat":
			t["instant"] = true
		case "table":
			t["instant"], t["format"] = true, "table"
		default:
			t["range"] = true
			t["exemplar"] = strings.Contains(q.Expr, "evenkeel_request_seconds_bucket")
		}
		targets = append(targets, t)
	}
	colours := []string{"green", "yellow", "red"}
	switch {
	case p.Rising:
		colours = []string{"red", "green", "green"}
	case len(p.Limits) == 1:
		colours[1] = "red"
	}
	steps := []object{{"color": colours[0], "value": nil}}
	for i, v := range p.Limits {
		steps = append(steps, object{"color": colours[min(i+1, 2)], "value": v})
	}
	defaults := object{"unit": p.Unit, "thresholds": object{"mode": "absolute", "steps": steps}}
	if p.Max > 0 {
		defaults["min"], defaults["max"] = 0, p.Max
	}
	options := object{}
	switch p.Kind {
	case "timeseries":
		custom := object{"fillOpacity": 10, "lineWidth": 1, "showPoints": "never", "spanNulls": false}
		if p.Stacked {
			custom["stacking"], custom["fillOpacity"] = object{"mode": "normal", "group": "A"}, 40
		}
		if len(p.Limits) > 0 {
			custom["thresholdsStyle"] = object{"mode": "dashed"}
		}
		defaults["custom"] = custom
		options = object{"legend": object{"displayMode": "list", "placement": "bottom", "showLegend": true}, "tooltip": object{"mode": "multi", "sort": "desc"}}
	case "stat":
		options = object{"reduceOptions": object{"calcs": []string{"lastNotNull"}, "fields": "", "values": false}, "colorMode": "value", "graphMode": "none"}
	}
	return object{"type": p.Kind, "title": p.Title, "description": p.About, "datasource": source(), "targets": targets,
		"fieldConfig": object{"defaults": defaults, "overrides": []object{}}, "options": options}
}

// RulesFile is the name of the rule file.
const RulesFile = "alerts.rules.yaml"

// Files are all files by name: a dashboard each, and the rules.
func Files(alerts []Alert, burns []float64) (map[string][]byte, error) {
	out := map[string][]byte{RulesFile: Rules(alerts)}
	for _, b := range Boards(burns) {
		text, err := b.JSON()
		if err != nil {
			return nil, fmt.Errorf("dashboard %s cannot be written: %w", b.Name, err)
		}
		out[b.Name+".json"] = append(text, '\n')
	}
	return out, nil
}

package docs

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// dashboard is the part of Grafana's dashboard model that the file must have right. Grafana imports a file that has it wrong, and shows it wrong.
type dashboard struct {
	ID            *int
	UID, Title    string
	SchemaVersion int
	Templating    struct{ List []variable }
	Panels        []panel
}

type variable struct {
	Name, Type string
	Datasource source
	Query      any
	Refresh    int
}

type source struct{ Type, UID string }

type panel struct {
	ID                       int
	Type, Title, Description string
	GridPos                  struct{ X, Y, W, H int }
	Datasource               source
	FieldConfig              struct{ Defaults struct{ Unit string } }
	Targets                  []struct {
		RefID      string
		Expr       string
		Datasource source
	}
}

var (
	// units are those of Grafana that the dashboard uses.
	units           = []string{"short", "none", "s", "ops", "percentunit"}
	variablePattern = regexp.MustCompile(`\$\{?(\w+)\}?`)
)

// gridWidth is the width of a dashboard in units of gridPos.
const gridWidth = 24

// wrongIn is what is wrong with a dashboard.
func wrongIn(text []byte) (problems []string) {
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	var keys map[string]json.RawMessage
	var d dashboard
	if err := json.Unmarshal(text, &keys); err != nil {
		return []string{err.Error()}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		return []string{err.Error()}
	}
	for _, key := range []string{"__inputs", "__requires", "__elements"} { // of an export for sharing, which cannot be provisioned
		if _, has := keys[key]; has {
			wrong("has %s", key)
		}
	}
	if d.ID != nil {
		wrong("has the id of an installation")
	}
	if d.UID == "" || len(d.UID) > 40 || d.Title == "" || d.SchemaVersion < 36 {
		wrong("uid, title or schemaVersion")
	}
	problems = append(problems, wrongVariables(d, string(text))...)
	ids, titles := map[int]bool{}, map[string]bool{}
	for i, p := range d.Panels {
		if p.ID < 1 || ids[p.ID] || p.Title == "" || titles[p.Title] {
			wrong("panel %d: its id or title is missing, or that of another", p.ID)
		}
		ids[p.ID], titles[p.Title] = true, true
		for _, problem := range append(p.wrong(), p.misplaced(d.Panels[:i])...) {
			wrong("panel %q: %s", p.Title, problem)
		}
	}
	return problems
}

// wrongVariables is what is wrong with the variables: each is used, and each that is used is there.
func wrongVariables(d dashboard, text string) (problems []string) {
	declared := map[string]bool{"__rate_interval": true, "__all": true}
	for i, v := range d.Templating.List {
		if declared[v.Name] || v.Type == "query" && (v.Datasource != source{"prometheus", "${datasource}"} || v.Refresh == 0) || i == 0 && (v.Type != "datasource" || v.Query != "prometheus") {
			problems = append(problems, fmt.Sprintf("variable %q", v.Name))
		}
		declared[v.Name] = true
		if !regexp.MustCompile(`\$\{?` + v.Name + `\b`).MatchString(text) {
			problems = append(problems, fmt.Sprintf("variable %q is not used", v.Name))
		}
	}
	for _, p := range d.Panels {
		for _, t := range p.Targets {
			for _, name := range variablePattern.FindAllStringSubmatch(t.Expr, -1) {
				if !declared[name[1]] {
					problems = append(problems, fmt.Sprintf("panel %q: there is no variable %s", p.Title, name[1]))
				}
			}
		}
	}
	return problems
}

// wrong is what is wrong with a panel, apart from its place.
func (p panel) wrong() (problems []string) {
	if p.Type == "row" {
		if p.GridPos.X != 0 || p.GridPos.W != gridWidth || p.GridPos.H != 1 || len(p.Targets) > 0 {
			problems = append(problems, "a row is one line")
		}
		return problems
	}
	if p.Type != "stat" && p.Type != "timeseries" {
		problems = append(problems, "type")
	}
	if !slices.Contains(units, p.FieldConfig.Defaults.Unit) {
		problems = append(problems, "unit")
	}
	if !strings.HasSuffix(p.Description, ".") {
		problems = append(problems, "description")
	}
	refs := map[string]bool{}
	sources := []source{p.Datasource}
	for _, t := range p.Targets {
		if t.Expr == "" || t.RefID == "" || refs[t.RefID] {
			problems = append(problems, "target "+t.RefID)
		}
		refs[t.RefID] = true
		sources = append(sources, t.Datasource)
	}
	if len(p.Targets) == 0 || slices.ContainsFunc(sources, func(s source) bool { return s != source{"prometheus", "${datasource}"} }) {
		problems = append(problems, "targets or datasource")
	}
	return problems
}

// misplaced is what is wrong with a panel's place, beside those before it.
func (p panel) misplaced(before []panel) (problems []string) {
	g := p.GridPos
	if g.X < 0 || g.Y < 0 || g.W < 1 || g.H < 1 || g.X+g.W > gridWidth {
		problems = append(problems, "it is not within the grid")
	}
	for _, other := range before {
		o := other.GridPos
		if g.X < o.X+o.W && o.X < g.X+g.W && g.Y < o.Y+o.H && o.Y < g.Y+g.H {
			problems = append(problems, "it lies over "+other.Title)
		}
	}
	return problems
}

// The dashboard is as Grafana wants it: it can be provisioned, every panel says what it shows and in what unit, and none lies over another.
func TestTheDashboardIsWhatGrafanaWants(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "deploy", "grafana", "dashboard.json"))
	require.NoError(t, err)
	assert.Empty(t, wrongIn(text))
	change := func(edit func(d map[string]any, first map[string]any)) []byte {
		var d map[string]any
		require.NoError(t, json.Unmarshal(text, &d))
		edit(d, d["panels"].([]any)[1].(map[string]any))
		changed, err := json.Marshal(d)
		require.NoError(t, err)
		return changed
	}
	target := func(p map[string]any) map[string]any { return p["targets"].([]any)[0].(map[string]any) }
	variables := func(d map[string]any) map[string]any { return d["templating"].(map[string]any) }
	for name, edit := range map[string]func(d, first map[string]any){
		"inputs":      func(d, _ map[string]any) { d["__inputs"] = []any{} },
		"an id":       func(d, _ map[string]any) { d["id"] = 7 },
		"no uid":      func(d, _ map[string]any) { d["uid"] = "" },
		"no variable": func(d, _ map[string]any) { variables(d)["list"] = variables(d)["list"].([]any)[:2] },
		"another datasource": func(_, first map[string]any) {
			first["datasource"] = map[string]any{"type": "prometheus", "uid": "mine"}
		},
		"a target of another": func(_, first map[string]any) { delete(target(first), "datasource") },
		"an unknown variable": func(_, first map[string]any) { target(first)["expr"] = "up{instance=\"$instance\"}" },
		"no expression":       func(_, first map[string]any) { target(first)["expr"] = "" },
		"no unit":             func(_, first map[string]any) { first["fieldConfig"] = map[string]any{} },
		"no description":      func(_, first map[string]any) { first["description"] = "" },
		"the id of another":   func(_, first map[string]any) { first["id"] = 3 },
		"over another":        func(_, first map[string]any) { first["gridPos"].(map[string]any)["w"] = 5 },
		"beyond the border":   func(_, first map[string]any) { first["gridPos"].(map[string]any)["x"] = 22 },
	} {
		assert.NotEmpty(t, wrongIn(change(edit)), name)
	}
}

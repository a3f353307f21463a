package statuspage

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"net/http"
	"time"
)

//go:embed assets
var files embed.FS

// asset is a file that the page refers to.
type asset struct {
	kind    string // its media type
	content []byte
	version string // a part of its address, so that a browser may keep it
}

var assets = map[string]asset{
	"style":  load("assets/style.css", "text/css; charset=utf-8"),
	"script": load("assets/script.js", "text/javascript; charset=utf-8"),
	"icon":   load("assets/icon.svg", "image/svg+xml"),
}

func load(name, kind string) asset {
	content, err := files.ReadFile(name)
	if err != nil {
		panic(err) // it is embedded
	}
	sum := sha256.Sum256(content)
	return asset{kind, content, hex.EncodeToString(sum[:6])}
}

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"version": func(name string) string { return assets[name].version },
	"seconds": func(d time.Duration) int { return max(1, int(d.Seconds())) },
	"number":  func(n int64) string { return number(n) },
	"count":   func(n int) string { return number(int64(n)) },
	"dash":    orDash,
}).ParseFS(files, "assets/*.html"))

// message is a page of one sentence.
type message struct {
	Title, Text string
	Status      int
	Home        bool // there is a way back
}

// render answers with a template. It is whole, or an error.
func render(w http.ResponseWriter, status int, name string, data any) {
	var body bytes.Buffer
	if err := templates.ExecuteTemplate(&body, name, data); err != nil {
		http.Error(w, "making the page: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes())
}

func serveAsset(w http.ResponseWriter, r *http.Request, name string) {
	a, known := assets[name]
	if !known {
		http.NotFound(w, r)
		return
	}
	if r.URL.Query().Get("v") == a.version {
		w.Header().Set("Cache-Control", "private, max-age=31536000, immutable")
	}
	w.Header().Set("Content-Type", a.kind)
	_, _ = w.Write(a.content)
}

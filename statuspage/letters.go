package statuspage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"unicode/utf8"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
)

// lettersMost is how many events the page of a group lists.
const lettersMost = 100

// lettersPage is the events of a failure group, or one of them.
type lettersPage struct {
	Access     Access
	Set        string
	Projection string
	Group      string
	Letters    []admin.DeadLetter
	More       bool   // there are others
	Position   int64  // of the event that is shown with its payload; 0 if none is
	Payload    string // as far as access allows
	Hidden     bool   // it is not allowed at all
}

// letters answers with the events of a failure group. With a position it is one event and its payload.
func (p *page) letters(w http.ResponseWriter, r *http.Request, access Access) {
	query := r.URL.Query()
	shown := lettersPage{Access: access, Set: p.admin.ReplicaSet(), Projection: query.Get("projection"), Group: query.Get("group"), Hidden: access.Payloads == NoPayloads}
	filter := admin.Filter{Projection: shown.Projection, Group: shown.Group}
	if text := query.Get("position"); text != "" {
		position, err := strconv.ParseInt(text, 10, 64)
		if err != nil || position < 1 {
			p.say(w, http.StatusBadRequest, "Not understood", fmt.Sprintf("The position must be a number above 0, got %q.", text))
			return
		}
		shown.Position = position
	}
	ctx, cancel := context.WithTimeout(r.Context(), readPatience)
	defer cancel()
	for letter, err := range p.admin.DeadLetters(ctx, filter) {
		if err != nil {
			p.say(w, http.StatusServiceUnavailable, "The events could not be read", err.Error())
			return
		}
		if shown.Position != 0 && letter.Position != shown.Position {
			continue
		}
		if shown.More = len(shown.Letters) == lettersMost; shown.More {
			break
		}
		shown.Letters = append(shown.Letters, letter)
	}
	if shown.Position != 0 && len(shown.Letters) == 0 {
		p.say(w, http.StatusNotFound, "No such event", "No event of this group has that position.")
		return
	}
	if shown.Position != 0 && !shown.Hidden {
		event, err := p.admin.Event(ctx, shown.Position)
		switch {
		case errors.Is(err, admin.ErrNoEvent):
			shown.Payload = "The event is not there any more."
		case err != nil:
			p.say(w, http.StatusServiceUnavailable, "The event could not be read", err.Error())
			return
		default:
			shown.Payload = payloadText(event.Payload, access.Payloads)
		}
	}
	render(w, http.StatusOK, "letters", shown)
}

// payloadMost is how much of a payload is shown, in bytes.
const payloadMost = 64 << 10

// payloadText is a payload as far as it may be seen.
func payloadText(payload []byte, allowed Payloads) string {
	size := fmt.Sprintf("%d bytes", len(payload))
	if allowed == NoPayloads || len(payload) > payloadMost {
		return size
	}
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.UseNumber()
	var value any
	isJSON := json.Valid(payload) && decoder.Decode(&value) == nil
	switch {
	case allowed == MaskedPayloads && isJSON:
		value = masked(value)
	case allowed != FullPayloads:
		return size
	case !isJSON && utf8.Valid(payload):
		return string(payload)
	case !isJSON:
		return fmt.Sprintf("%s: %x", size, payload)
	}
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return size
	}
	return string(text)
}

// masked is a JSON value with the types of its values in their place. Null and the names of fields stay.
func masked(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for name, field := range v {
			v[name] = masked(field)
		}
		return v
	case []any:
		for i, element := range v {
			v[i] = masked(element)
		}
		return v
	case string:
		return "text"
	case json.Number:
		return "number"
	case bool:
		return "true or false"
	}
	return nil
}

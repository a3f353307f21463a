package statuspage

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// span is a duration in words.
func span(d time.Duration) string {
	switch d = max(0, d); {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d d", d/(24*time.Hour))
}

// number is a number with narrow spaces between its thousands.
func number(n int64) string {
	digits, sign := strconv.FormatInt(n, 10), ""
	if n < 0 {
		digits, sign = digits[1:], "−"
	}
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteRune('\u202f')
		}
		b.WriteRune(d)
	}
	return sign + b.String()
}

// counted is a number and what it counts.
func counted(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return number(n) + " " + what + "s"
}

// lagText is a lag; ~ says that it is an estimate.
func lagText(lag int64, exact bool) string {
	if exact {
		return number(lag)
	}
	return "~" + number(lag)
}

func orDash(text string) string {
	if text == "" {
		return "—"
	}
	return text
}

// moment is a time, for a template: how long ago it was, and when.
type moment struct {
	Ago, At, Machine string
}

// momentOf is nil where there is no time.
func momentOf(at *time.Time, now time.Time) *moment {
	if at == nil {
		return nil
	}
	m := &moment{At: at.UTC().Format("2006-01-02 15:04:05 UTC"), Machine: at.UTC().Format(time.RFC3339)}
	switch past := now.Sub(*at); {
	case past < -time.Second:
		m.Ago = "in " + span(-past)
	case past < time.Second:
		m.Ago = "now"
	case past < time.Minute:
		m.Ago = fmt.Sprintf("%d s ago", past/time.Second)
	default:
		m.Ago = span(past) + " ago"
	}
	return m
}

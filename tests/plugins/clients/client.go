// A tap of what Go's net/http is told at each place, the arguments before the options; built without cgo, for tests alone.
package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

func ask(client *http.Client, place string) string {
	answer, err := client.Get(place)
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err != nil {
		return err.Error()
	}
	return string(said)
}

func write(message map[string]any) {
	message["stream"] = "tries"
	if json.NewEncoder(os.Stdout).Encode(message) != nil {
		os.Exit(1)
	}
}

func main() {
	client := &http.Client{Timeout: 20 * time.Second}
	write(map[string]any{"type": "SCHEMA", "schema": map[string]string{"type": "object"}, "key_properties": []string{}})
	for _, place := range os.Args[1:] {
		if strings.HasPrefix(place, "--") {
			return
		}
		record := map[string]string{"client": "go", "place": place, "said": ask(client, place)}
		write(map[string]any{"type": "RECORD", "record": record})
	}
}

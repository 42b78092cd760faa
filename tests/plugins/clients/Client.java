import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;

/** A tap of what Java's HttpClient is told at each place, the arguments before the options; for tests alone. */
class Client {
    public static void main(String[] arguments) throws InterruptedException {
        Duration within = Duration.ofSeconds(20);
        HttpClient client = HttpClient.newBuilder().connectTimeout(within).build();
        System.out.println(
            "{\"type\": \"SCHEMA\", \"stream\": \"tries\", \"schema\": {\"type\": \"object\"}, \"key_properties\": []}");
        for (String place : arguments) {
            if (place.startsWith("--")) {
                return;
            }
            String said;
            try {
                HttpRequest asked = HttpRequest.newBuilder(URI.create(place)).timeout(within).build();
                said = client.send(asked, HttpResponse.BodyHandlers.ofString()).body();
            } catch (java.io.IOException error) {
                said = error.getClass().getSimpleName();
            }
            System.out.printf(
                "{\"type\": \"RECORD\", \"stream\": \"tries\", "
                    + "\"record\": {\"client\": \"java\", \"place\": \"%s\", \"said\": \"%s\"}}%n",
                place, said);
        }
    }
}

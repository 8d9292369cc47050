// SPDX-License-Identifier: Apache-2.0
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

/** Fetch URL...: the status and body of each, through java.net.http.HttpClient as it comes. */
public class Fetch {
	public static void main(String[] urls) throws Exception {
		HttpClient client = HttpClient.newHttpClient();
		for (String url : urls) {
			HttpRequest request = HttpRequest.newBuilder(URI.create(url)).build();
			HttpResponse<String> response = client.send(request, HttpResponse.BodyHandlers.ofString());
			System.out.println(response.statusCode() + " " + response.version() + " " + response.body().strip());
		}
	}
}
